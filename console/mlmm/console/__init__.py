"""What people see: the ``mlmm`` command, replay over a file, and the demo."""
