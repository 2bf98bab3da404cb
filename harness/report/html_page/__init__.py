"""What `index.html` is made of: its template, style and script, and the data behind its dialogs."""
