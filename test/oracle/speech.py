"""Who spoke when: one host at a time, and the guest's words in the order in which it said them."""

from .judges import expect


class Speech:
    """Takes every frame that either host's daemon wrote to its tap, in the order of their times.

    A host that spoke after the other one did may do so only because the guest moved back to it: the
    caller knows how many moves there were and compares. Numbers of utterances grow over all frames
    of both hosts: held frames that leave after the other host has spoken, or leave twice, do not.
    """

    def __init__(self):
        self.speaker = None
        self.moves = []  # (time, host that began to speak), the first one included
        self.frames = 0
        self.utterance = 0
        self.time = 0.0

    def hear(self, time, host, utterance=None):
        """`utterance`: the number that the frame bears, if it bears one."""
        expect(time >= self.time, f"frames out of order: {time} after {self.time}")
        self.time = time
        self.frames += 1
        if host != self.speaker:
            self.moves.append((time, host))
            self.speaker = host
        if utterance is not None:
            expect(utterance > self.utterance,
                   f"{host} said utterance {utterance} after {self.utterance} had been said")
            self.utterance = utterance
