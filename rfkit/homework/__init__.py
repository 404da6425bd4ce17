"""The homework: answers, networks and training in numpy, visible checks, the hand-out and the grader."""
