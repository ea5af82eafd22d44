"""Makes the pictures of the command line in this folder: python docs/img/make_screens.py [NAME...]

Each command runs on a terminal of 80 columns (a pty with pyte behind it), and what stands on its screen at the end is drawn
with Pillow, on a dark and on a light background. Needs pip install pyte pillow and the font DejaVu Sans Mono; and root, to have
a /dev/shm and a /proc of its own (unshare), in which only these rings are.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono{}.ttf"
COLUMNS, SIZE = 80, 15
# The colours of a terminal: background, text, dimmed text, and the eight names.
THEMES = {
    "dark": {"bg": "#1e1e2e", "fg": "#d8dee9", "dim": "#7f8797", "black": "#3b4252", "red": "#f07178", "green": "#a3d977",
             "brown": "#e6c35c", "blue": "#82aaff", "magenta": "#c792ea", "cyan": "#6fd3e0", "white": "#e5e9f0"},
    "light": {"bg": "#fdfdfb", "fg": "#2b2b2b", "dim": "#8a8a8a", "black": "#000000", "red": "#c0262d", "green": "#3c7d0a",
              "brown": "#9a6700", "blue": "#1a5fb4", "magenta": "#8a3fa0", "cyan": "#0b7285", "white": "#555555"},
}  # fmt: skip


class Screen(pyte.Screen):
    """pyte's, with dimmed text, which it does not know: it is given a colour of its own."""

    def select_graphic_rendition(self, *codes, **how):
        super().select_graphic_rendition(*[90 if code == 2 else code for code in codes], **how)
        if 22 in codes:
            self.cursor.attrs = self.cursor.attrs._replace(fg="default")


def show(words, lines, seconds=0.0, keys=b""):
    """Run `shmring WORDS` and give its screen: at its end, or after `seconds`, when `keys` are sent to end it."""
    screen = Screen(COLUMNS, lines)
    stream = pyte.ByteStream(screen)
    child, master = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT), COLORTERM="")
        os.execv(sys.executable, [sys.executable, "-m", "shmring", *words])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, COLUMNS, 0, 0))
    stream.feed(f"$ shmring {' '.join(words)}\r\n".encode() if not seconds else b"")
    deadline = time.monotonic() + (seconds or 120)
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        stream.feed(data)
    if keys:
        os.write(master, keys)
    os.waitpid(child, 0)
    os.close(master)
    return screen


def draw(screen, theme, path):
    """The screen as a PNG, without the empty lines at its end."""
    colours = THEMES[theme]
    fonts = {bold: ImageFont.truetype(FONT.format("-Bold" if bold else ""), SIZE) for bold in (False, True)}
    width, height = round(fonts[False].getlength("M")), SIZE + 4
    used = max((row for row in range(screen.lines) if screen.display[row].strip()), default=0) + 1
    image = Image.new("RGB", (COLUMNS * width + 24, used * height + 20), colours["bg"])
    pen = ImageDraw.Draw(image)
    for row in range(used):
        for column in range(COLUMNS):
            char = screen.buffer[row][column]
            plain = {"default": "fg", "brightblack": "dim"}
            colour = colours[plain.get(char.fg, char.fg.removeprefix("bright"))]
            x, y = 12 + column * width, 10 + row * height
            if char.data in "█░▁▂▃▄▅▆▇▏▎▍▌▋▊▉":
                block(pen, char.data, x, y, width, height, colour, colours["bg"])
            elif char.data.strip():
                pen.text((x, y), char.data, font=fonts[char.bold], fill=colour)
    image.quantize(64).save(path, optimize=True)
    print(path.name, image.size, path.stat().st_size)


def block(pen, char, x, y, width, height, colour, background):
    """Bars are drawn as terminals do, to the borders of their cell."""
    if char == "░":
        pen.rectangle([x, y + 3, x + width - 1, y + height - 4], fill=colour_between(colour, background))
        return
    if char in "▏▎▍▌▋▊▉":  # from U+2589, seven eighths of the width, to U+258F, one
        wide = round(width * (0x2590 - ord(char)) / 8)
        pen.rectangle([x, y + 2, x + max(wide, 1) - 1, y + height - 3], fill=colour)
        return
    full = height - 4
    tall = full if char == "█" else round(full * (ord(char) - 0x2580) / 8)
    pen.rectangle([x, y + height - 2 - tall, x + width - 1, y + height - 3], fill=colour)


def colour_between(one, other):
    """A quarter of the first over the second."""
    mixed = [(int(one[n : n + 2], 16) + 3 * int(other[n : n + 2], 16)) // 4 for n in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


# ---- rings to be shown ----


def produce(name, number, pause_s):
    import shmring

    with shmring.open(name) as ring, ring.producer() as tx:
        count = 0
        while True:
            tx.send_many([b"quote %d of producer %d, " % (count + n, number) + b"x" * (n * 7 % 90) for n in range(40)])
            count += 40
            time.sleep(pause_s * (1 + 0.7 * ((time.time() / 9) % 1)))


def consume(name, group, pause_s):
    import shmring

    with shmring.open(name) as ring, ring.consumer(group) as rx:
        while True:
            rx.recv_many(50)
            time.sleep(pause_s)


def watch(name):
    import shmring

    with shmring.open(name) as ring, ring.consumer(lossy=True) as rx:
        while True:
            rx.recv_many(100)


def make_rings(folder):
    """Rings as a machine at work has them; the processes that use them."""
    import shmring

    shmring.create("quotes", "1 MiB").remove_group("default")
    shmring.create("jobs", "64 KiB", content="codec pickle")
    shmring.create(f"{folder}/archive.ring", "1 MiB")
    with shmring.create(f"{folder}/damaged.ring", "64 KiB"), open(f"{folder}/damaged.ring", "r+b") as file:
        file.seek(24)
        file.write(b"\x07")
    context = multiprocessing.get_context("fork")
    work = [context.Process(target=produce, args=("quotes", n, 0.02)) for n in range(4)]
    for group, pause_s in ("encode", 0.001), ("encode", 0.001), ("disk", 0.0078):
        work.append(context.Process(target=consume, args=("quotes", group, pause_s)))
    work += [context.Process(target=watch, args=("quotes",)), context.Process(target=consume, args=("jobs", "default", 0))]
    for each in work:
        each.start()
    with shmring.open("jobs") as ring, ring.producer() as tx:
        tx.send_many([b"job %d" % number for number in range(200)])
    time.sleep(2)
    os.kill(work[-1].pid, signal.SIGKILL)
    work.append(context.Process(target=produce, args=(f"{folder}/archive.ring", 9, 0.001)))  # until it is full
    work[-1].start()
    return work


def main(names):
    folder = "/var/spool/rings"
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/shm"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/var/spool"], check=True)
    os.mkdir(folder)
    pictures = {
        "ls": lambda: show(["ls", "quotes", "jobs", folder], 14),
        "top": lambda: show(["top"], 30, 40, b"q"),
        "demo": lambda: show(["demo", "--quick"], 50),
    }
    work = []
    try:
        for name in names or pictures:
            if name == "demo":
                for each in work:
                    each.kill()
            elif not work:
                work = make_rings(folder)
                time.sleep(3)
            screen = pictures[name]()
            for theme in THEMES:
                draw(screen, theme, HERE / f"{name}-{theme}.png")
    finally:
        for each in work:
            each.kill()


if __name__ == "__main__":
    if os.environ.get("SHMRING_SCREENS") != "alone":
        os.environ["SHMRING_SCREENS"] = "alone"
        alone = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
        os.execvp(alone[0], [*alone, sys.executable, __file__, *sys.argv[1:]])
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
