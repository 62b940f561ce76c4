"""Maintenance: thin history, join small files, remove unnamed files, and the days that retention no longer keeps."""
