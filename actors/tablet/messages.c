/* The tablet's messages in the catalog. */
#include "actors/tablet/messages.h"

MSG_FOLDER_DEFINE(tablet, TABLET_MESSAGES);
