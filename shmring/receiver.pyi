from typing_extensions import Self

from shmring.participant import Participant

class Receiver(Participant):
    def try_recv(self) -> bytes | None: ...
    def __iter__(self) -> Self: ...
