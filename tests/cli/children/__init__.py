"""Small programs that play the children of a hive."""
