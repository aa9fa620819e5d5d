from sphinx.builders.epub3 import Epub3Builder
from sphinx.writers.html5 import HTML5Translator
class BookEpub(Epub3Builder):
    name = "book-epub"
class EpubTranslator(HTML5Translator): pass
def link_to_pages(app, doctree, docname): pass
