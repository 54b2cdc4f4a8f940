"""How answers, mistakes and help are written for the width of a terminal."""
