"""What can be asked of Qhronos. Both faces call these, and nothing else; every decision about access is made here."""
