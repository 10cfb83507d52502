"""A proxy in front of etcd that can lose answers: the transaction is carried out, and whoever asked
never hears of it.
"""

import socket
import threading

from support import inside

TRANSACTION = b"POST /v3/kv/txn"


class Proxy:
    """Listens in the namespace of the switches, at `address`; hosts are known by their own."""

    def __init__(self, world, address, etcd_port, port, side_of):
        self.world = world
        self.etcd = (address, etcd_port)
        self.side_of = side_of  # of a host's IP address
        self.losing = frozenset()  # sides whose answers are lost
        self.lost_grants = 0
        self.lock = threading.Lock()
        self.stopping = False
        with inside(world.network.names["c"]):
            self.listener = socket.create_server((address, port))
        self.listener.settimeout(0.1)
        threading.Thread(target=self._accept, daemon=True).start()
        world.clients.append(self)

    def close(self):
        self.stopping = True
        self.listener.close()

    def lose(self, *hosts):
        """From now on the answers to transactions of these, and once one of them was a grant, to
        everything, since a look at the key would tell."""
        self.lost_grants = 0
        self.losing = frozenset(host.side for host in hosts)

    def _accept(self):
        while not self.stopping:
            try:
                client, address = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            threading.Thread(target=self._serve, args=(client, self.side_of(address[0])),
                             daemon=True).start()

    def _serve(self, client, side):
        """One connection: questions and answers take turns, each small enough for one read."""
        try:
            with client, inside_connection(self.world, self.etcd) as server:
                while question := client.recv(65536):
                    if side in self.losing:
                        with self.lock:  # nobody may learn of a grant before it counts as lost
                            answer = self._ask_and_lose(server, question)
                    else:
                        answer = ask(server, question)
                    if not answer:
                        return
                    client.sendall(answer)
        except OSError:
            pass  # either end went; the other one follows

    def _ask_and_lose(self, server, question):
        answer = ask(server, question)
        if question.startswith(TRANSACTION):
            self.lost_grants += b'"succeeded":true' in answer
            return b""
        return b"" if self.lost_grants else answer


def ask(server, question):
    server.sendall(question)
    return server.recv(65536)


def inside_connection(world, address):
    with inside(world.network.names["c"]):
        return socket.create_connection(address)
