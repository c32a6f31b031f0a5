"""What a program asks of the system: files, locks, a terminal. It knows no other room."""
