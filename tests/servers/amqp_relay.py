"""A relay to an AMQP broker. It can break connections in ways a network does, and counts heartbeats."""

import socket
import threading
from contextlib import suppress

#: An AMQP frame: the first byte is the frame's type, the last four bytes of seven are its length.
HEARTBEAT = 8
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class AmqpRelay:
    """A relay that listens on a free port of the loopback interface until it is closed."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        self.connections = 0
        self.heartbeats = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def lose_clients(self) -> None:
        """Drop the clients' connections without telling the server, as a failed host or network does."""
        for end in self._ends[::2]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def go_silent(self) -> None:
        """Stop passing on the server's bytes."""
        self._open.clear()

    def close(self) -> None:
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self.connections += 1
                self._ends += [client, server]
                for work in (self._from_client, self._from_server):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _from_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            stream = client.makefile("rb")
            server.sendall(stream.read(len(PROTOCOL_HEADER)))
            while header := stream.read(7):
                self.heartbeats += header[0] == HEARTBEAT
                server.sendall(header + stream.read(int.from_bytes(header[3:]) + 1))

    def _from_server(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                self._open.wait()
                client.sendall(data)
