"""The stand-in for the Hub by hand: prints the settings with which `hfk push` and every other client find it."""

from __future__ import annotations

import argparse
import threading

from .server import HubServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--folder", default="hub", help="where repositories are kept")
    parser.add_argument("--user", default="me")
    options = parser.parse_args()
    server = HubServer(options.folder, options.port)
    tokens = server.store.add_user(options.user)
    server.start()
    print(f"HF_ENDPOINT={server.endpoint} HF_HUB_DISABLE_XET=1 HF_TOKEN={tokens['write']}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
