"""Ends interpreters with everything open, one after the other. Each line of standard input is a case in JSON: {"name": of the
ring, "order": in which the names are bound, "keep": what holds on to them, "threads": calls in which daemon threads wait,
"late": what else happens while the interpreter ends}. For each, a child is forked that opens all of it and comes to the end of
this program; the answer is a line of JSON: its status, and what it wrote to standard error.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import threading
import time

import shmring


def everything(ring):
    """All that can be open at a time, by name."""
    tx, rx, observer = ring.producer(), ring.consumer("a"), ring.consumer(lossy=True)
    tx.send_many([b"one", b"two", b"three", b"four"])
    tx.send_array([1.0, 2.0])
    view, seen, claim = rx.peek(0), observer.peek(0), tx.reserve(10)
    third = rx.peek(0)
    arrays = ring.consumer("arrays")
    arrays.recv_many(4, 0)
    return {
        "ring": ring,
        "tx": tx,
        "rx": rx,
        "observer": observer,
        "view": view,
        "data": view.data,
        "seen": seen,
        "glance": seen.data[1:],
        "claim": claim,
        "room": claim.view,
        "unseen": third,
        "iterator": iter(ring.consumer("b")),
        "gone": ring.producer() if ring.producers == "multi" else None,
        "array": arrays.peek_array(0).array,
        "again": shmring.open(ring.name, readonly=True).consumer(lossy=True),
    }


class User:
    """Uses what it holds when it is finalized, at whatever time that is."""

    def __init__(self, held):
        self.held = held

    def __del__(self):
        for name, call in USES:
            try:
                if name in self.held:
                    call(self.held[name])
            except (ValueError, BufferError, shmring.Error, TimeoutError, ImportError):
                pass  # the last: nothing can be imported at the very end


class Codec:
    name = "own"

    def pack(self, obj):
        raise NotImplementedError

    def unpack(self, data, *, borrow=False):
        raise NotImplementedError


USES = (
    ("view", lambda view: view.data),
    ("rx", lambda rx: rx.try_recv()),
    ("claim", lambda claim: claim.commit()),
    ("tx", lambda tx: tx.try_send(b"late")),
    ("view", lambda view: view.release()),
    ("observer", lambda observer: observer.peek(0)),
    ("ring", lambda ring: ring.stats()),
    ("ring", lambda ring: ring.consumer("late").close()),
    ("ring", lambda ring: ring.close()),
)


def keep(how, held):
    """Hold on to it until the end, in one of several ways."""
    if how == "globals":
        globals().update(held)
    elif how == "cycle":
        held["itself"] = held
        globals()["cycle"] = [held]
        gc.disable()
    elif how == "another module":
        for name, each in held.items():
            setattr(json, f"_{name}", each)
    elif how == "thread":
        local = threading.local()
        vars(local).update(held)
        globals()["local"] = local
    elif how == "user":
        globals()["user"] = User(held)
    elif how == "codec":
        globals().update(held)  # which its functions keep, longer than this module lives
        shmring.codecs.register(Codec())
    elif how == "traceback":
        try:
            raise ValueError(held)
        except ValueError as error:
            globals()["error"] = error


def wait_in(call, ring):
    """A daemon thread in a call that nothing will end; returns when it sleeps there. Or one that never sleeps."""
    if call == "recv":
        rx = ring.consumer("empty", start="latest", wait="park")
        target = rx.recv
    elif call == "iterate":
        rx = ring.consumer("empty", start="latest", wait="park")

        def target():
            for _ in rx:
                pass
    elif call == "observe":
        target = ring.consumer(lossy=True, start="latest", wait="park").recv
    elif call == "send":
        tx = ring.producer(wait="park")

        def target():
            while True:
                tx.send(bytes(1000))
    elif call == "wait":
        handles = [ring.consumer("empty", start="latest", wait="park")]

        def target():
            shmring.wait(handles)

    elif call == "come and go":

        def come_and_go():
            while True:
                ring.consumer(lossy=True, start="latest").close()

        threading.Thread(target=come_and_go, daemon=True).start()
        return

    def sleeping():
        return sum(bool(each.parks) for each in ring.stats().participants if each.pid == os.getpid())

    before = sleeping()
    threading.Thread(target=target, daemon=True).start()
    while sleeping() == before:
        time.sleep(0.0005)


def begin(case):
    """In the child: what the case asks for. When this returns, the program ends."""
    late = case.get("late")
    ring = shmring.open(case["name"])
    if case["order"]:
        held = everything(ring)
        keep(case["keep"], {name: held[name] for name in case["order"] if held[name] is not None})
        del held
    for call in case.get("threads", ()):
        wait_in(call, ring)
    globals()["first"] = ring
    if late == "sys.exit in a thread":
        thread = threading.Thread(target=lambda: ring.consumer("c").recv_many(sys.exit(3), 0))
        thread.start()
        thread.join()
    elif late == "an error":
        sys.stderr = None
        raise RuntimeError
    elif late == "os._exit":
        os._exit(0)


def main():
    atexit.register(lambda: time.sleep(SLOW[0]))  # after the handles were closed, as it was registered before
    for line in sys.stdin:
        case = json.loads(line)
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(there, 2)
            os.close(here)
            os.close(there)
            SLOW[0] = 0.05 if case.get("late") == "slow" else 0
            begin(case)
            return
        os.close(there)
        with open(here) as file:
            errors = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status, "errors": errors}), flush=True)


SLOW = [0.0]

if __name__ == "__main__":
    main()
