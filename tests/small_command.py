"""A command in a process of its own, with the small network: python small_command.py
SECONDS_TO_MEET WORDS...
"""

import sys

import small_network

from experiments import model, processes
from experiments.__main__ import configure, main

if __name__ == "__main__":
    processes.MEETING = int(sys.argv[1])
    model.init, model.apply = small_network.init, small_network.apply
    configure()
    processes.leave(main(sys.argv[2:]))
