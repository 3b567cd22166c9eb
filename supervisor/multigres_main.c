/* The `multigres` program: picks the command. `dev` runs twice: as the watchdog parent, and as its child, the node. */
#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "supervisor/dev.h"
#include "supervisor/parent.h"
#include "supervisor/version.h"

static const char help[] =
	"usage: multigres COMMAND [OPTION]...\n"
	"\n"
	"Many Postgres servers as one.\n"
	"\n"
	"commands:\n"
	"  dev       run a whole cluster on this machine, in the foreground\n"
	"  node      run one role of a cluster (comes with the cluster)\n"
	"  version   what this is\n"
	"  help      this text\n"
	"\n"
	"multigres dev --help lists its options; mgctl --help says how to look into a running node.\n";

static int complain(const struct error *err)
{
	fprintf(stderr, "multigres: %s\n", err->text);
	if (err->hint[0])
		fprintf(stderr, "hint: %s\n", err->hint);
	return NODE_USAGE;
}

static int dev(int argc, char **argv)
{
	static struct dev_settings settings;
	struct option_rest rest = {0};
	struct error err = {0};

	if (options_defaults(&dev_options, &settings, &err) ||
		options_parse(&dev_options, argc - 2, argv + 2, false, &settings, &rest, &err))
		return complain(&err);
	if (rest.help) {
		struct writer out;

		writer_init(&out, OPTION_HELP_MAX);
		options_help(&dev_options, &out);
		fwrite(out.buf->data, 1, out.len, stdout);
		writer_release(&out);
		return 0;
	}
	if (rest.n) {
		error_set(&err, E_INVALID, "22023", "unexpected word \"%.100s\"", rest.args[0]);
		error_hint(&err, "options begin with --; multigres dev --help lists them");
		return complain(&err);
	}
	log_set_level((enum log_level)settings.log_level);
	if (dev_settings_check(&settings, &err))
		return complain(&err);
	return settings.child_fd < 0 ? dev_parent(&settings, argc, argv) : dev_node(&settings);
}

int main(int argc, char **argv)
{
	static const char *const commands[] = {"dev", "node", "version", "help", NULL};
	const char *command = argc > 1 ? argv[1] : "", *meant;

	if (strcmp(command, "dev") == 0)
		return dev(argc, argv);
	if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
		puts("multigres " MULTIGRES_VERSION);
		return 0;
	}
	if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
		fputs(help, stdout);
		return 0;
	}
	if (strcmp(command, "node") == 0) {
		fputs("multigres: `node` comes with the cluster; for now there is `multigres dev`\n", stderr);
		return NODE_USAGE;
	}
	if (!command[0]) {
		fputs(help, stderr);
		return NODE_USAGE;
	}
	meant = options_nearest(command, commands);
	fprintf(stderr, "multigres: unknown command \"%.100s\"%s%s%s\nhint: multigres help lists them\n",
		command, meant ? ": did you mean " : "", meant ? meant : "", meant ? "?" : "");
	return NODE_USAGE;
}
