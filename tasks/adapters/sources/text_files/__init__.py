"""Files of text: encodings, lines, the rows of CSV and the items of JSON arrays, in bounded memory."""
