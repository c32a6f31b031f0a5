"""Trains a network of the paper; ``python -m jaxws train`` is the same program.

   $ python train.py                                          # digits, LC with weight sharing
   $ python train.py --config configs/cifar10_lc_ws1.py --config.data.path=/data/cifar10
   $ python train.py --config digits_lc --config.seed=1 --workdir=runs/digits_lc_1

The same command resumes a run that was stopped. Exit status: 0 at the end of the run; 75 after an
orderly stop, by SIGTERM or Ctrl-C, with a checkpoint; 2 for a mistake or a full disk; 3 for a run
that has diverged. docs/reliability.md has more.
"""

from jaxws.__main__ import run_program

if __name__ == "__main__":
    run_program("train", called="python train.py")
