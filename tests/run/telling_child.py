"""A process that brings what money did to the log, and kills itself at a named moment. Usage: HOME MOMENT."""

import os
import signal
import sys

from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.run.platform import Platform


def die(*_args, **_more):
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    home, moment = sys.argv[1:3]
    platform = Platform(load_settings(None, {"VEDETTE_HOME": home}), clock=SystemClock())
    append, together = platform.log.append, platform.money.together
    if moment == "before append":
        platform.log.append = die
    if moment == "after append":
        platform.log.append = lambda *args, **more: die(append(*args, **more))
    if moment == "after forgetting":
        platform.money.together = lambda work, **more: die(together(work, **more))
    platform.telling.turn()
    platform.money.together = together
    die()


if __name__ == "__main__":
    main()
