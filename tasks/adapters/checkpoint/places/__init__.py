"""Where the files of a corpus stand, and what each place is known as."""
