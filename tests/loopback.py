"""A server on the loopback interface, for tests."""

from http.server import ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """One that keeps silent when a client goes away: a late traceback would stand in the output of another test."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass
