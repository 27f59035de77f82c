"""Keys, signatures, encrypted copies, and the file that tells which keys count. verify/ shares no code with this."""
