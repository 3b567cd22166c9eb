#!/usr/bin/python3
"""A relay that lies: stands between a client and Postgres and changes what the server says.

    tamper.py LISTEN_PORT SERVER_PORT [--replace OLD NEW] [--cut BYTES]

OLD is replaced by NEW (of the same length) in what the server sends; --cut ends each connection after so many bytes
from the server. With neither it is a faithful relay. Used by test/clients/prove to show that the suites notice.
"""
import argparse
import asyncio


async def copy(reader, writer, replace=None, cut=None):
    held = b""
    total = 0
    try:
        while data := await reader.read(65536):
            if replace:
                data = (held + data).replace(*replace)
                # What may be the beginning of OLD waits for the rest of it, but never for long: only if OLD starts there.
                keep = next((n for n in range(len(replace[0]) - 1, 0, -1) if data.endswith(replace[0][:n])), 0)
                held, data = data[len(data) - keep:], data[:len(data) - keep]
                if held and reader.at_eof() is False:
                    try:
                        more = await asyncio.wait_for(reader.read(65536), 0.02)
                        data, held = (data + held + more).replace(*replace), b""
                    except asyncio.TimeoutError:
                        data, held = data + held, b""
            total += len(data)
            if cut and total > cut:
                return
            writer.write(data)
            await writer.drain()
    except (ConnectionError, OSError):
        pass
    finally:
        try:
            writer.close()
        except RuntimeError:
            pass


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("listen", type=int)
    parser.add_argument("server", type=int)
    parser.add_argument("--replace", nargs=2)
    parser.add_argument("--cut", type=int)
    options = parser.parse_args()
    replace = tuple(text.encode() for text in options.replace) if options.replace else None
    assert not replace or len(replace[0]) == len(replace[1])

    async def serve(reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", options.server)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer, replace, options.cut))

    server = await asyncio.start_server(serve, "127.0.0.1", options.listen, backlog=1000)
    async with server:
        await server.serve_forever()


asyncio.run(main())
