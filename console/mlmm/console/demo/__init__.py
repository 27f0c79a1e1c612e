"""``mlmm demo``: the whole of MLMM in about a minute, on real rows, a real model, a real API and a real trainer.

`plan` says what happens when and what is injected; `rows` brings the data; `serving` and `trainer` are the two
processes that are watched, written as a user would; `traffic` calls the API and sends late labels; `sink` receives
the mail; `watch` reads the topics; `stage` starts and ends everything; `links` is what must happen; `story` tells it.
"""
