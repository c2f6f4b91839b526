"""Small talk: who the model is, who made it, what it can do, greetings and thanks.

The laptop's model says that it is a small sibling of K2-V2 trained by this pipeline, in a few dozen
wordings; it has no need of thinking, so the trace is empty at every effort.
"""

import itertools

from k2model.corpus.documents import Document, is_heldout, make_document
from k2model.corpus.markup import EFFORTS, chat

ORIGIN, LICENCE = "k2model identity", "Apache-2.0"

_OPENINGS = ("", "Hello! ", "Hi, ", "Excuse me, ", "Please tell me: ")
_QUESTIONS = {
    "I am K2, a small language model trained on a laptop.": (
        "who are you?", "what are you?", "what is your name?", "are you K2?", "which model are you?",
    ),
    "The K2 lifecycle pipeline trained me, after the recipe of LLM360's K2-V2.": (
        "who made you?", "who trained you?", "where do you come from?", "how were you made?",
    ),
    "I can add, reverse words, solve small puzzles, name capitals and call tools.": (
        "what can you do?", "how can you help me?", "what do you know?", "what are you good at?",
    ),
    "I have about two million parameters.": ("how big are you?", "how many parameters do you have?"),
    "I think in three efforts: low, medium and high.": ("how do you think?", "which efforts do you have?"),
}  # fmt: skip
_SMALL_TALK = {
    "Hello! How can I help you?": ("Hello", "Hello!", "Hi", "Hi there", "Good morning", "Good evening", "Hey K2"),
    "You are welcome.": ("Thanks", "Thank you", "Thank you!", "Thanks a lot", "That helps, thank you", "Great, thanks"),
    "Goodbye!": ("Bye", "Goodbye", "See you", "See you later", "Good night"),
}


def documents() -> tuple[list[Document], list[Document]]:
    """(trained, held out), split by the user's wording."""
    pairs = [
        (_sentence(o, q), answer)
        for answer, asked in _QUESTIONS.items()
        for o, q in itertools.product(_OPENINGS, asked)
    ]
    pairs += [(said, answer) for answer, wordings in _SMALL_TALK.items() for said in wordings]
    made = [_document(said, answer, effort) for said, answer in pairs for effort in EFFORTS]
    trained = [document for document in made if not is_heldout(document["key"])]
    return trained, [document for document in made if is_heldout(document["key"])]


def _document(said: str, answer: str, effort: str) -> Document:
    segments = chat([{"role": "user", "content": said}, {"role": "assistant", "content": answer}], effort)
    return make_document("chat/identity", "chat", LICENCE, ORIGIN, segments, key=f"identity {said}")


def _sentence(opening: str, question: str) -> str:
    joins = not opening or opening.endswith(("! ", ": "))
    return opening + (question[0].upper() + question[1:] if joins else question)
