from shmring.receiver import Receiver

class Member(Receiver):
    @property
    def group(self) -> str: ...
