"""Text in itself: words, sentences, languages, word lists, likeness, and which lines of it matter."""
