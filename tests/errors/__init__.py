"""What midsl says when it refuses: rendering, pages of the catalogue, bad programs."""
