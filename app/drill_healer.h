/* The process that makes a drill's fault and takes it back.
 *
 * It is a child of kemarictl in a session of its own, deaf to the signals of a terminal, and it
 * heals when it is told to, when its time is over, or when whoever could tell it is gone: kemarictl
 * may die in the middle. It may itself be killed: a freeze then ends by the frozen process's own
 * timer (app/node_freeze.c), rules of the network by the kernel's (app/drill_filter.h), and a
 * daemon that was killed is as dead as after the failure that was rehearsed. */
#ifndef KEMARI_APP_DRILL_HEALER_H
#define KEMARI_APP_DRILL_HEALER_H

#include "app/drill.h"
#include "app/drill_target.h"

enum drill_news_kind {
    DRILL_NEWS_STRUCK,  /* the fault began */
    DRILL_NEWS_REFUSED, /* it could not be made: nothing has happened, and this is the last news */
    DRILL_NEWS_HEALED,  /* it is taken back */
    DRILL_NEWS_BACK,    /* this host's daemon is back in its pair: the last news */
    DRILL_NEWS_FAILED,  /* it does not come back; likewise */
};

struct drill_news {
    enum drill_news_kind kind;
    nsec_t at; /* clock_now() of it */
    char text[ERROR_TEXT_MAX];
};

struct drill_healer {
    pid_t pid;
    int orders;
    int news;
};

/* Starts it; the fault is made at once and lasts `seconds` at most. */
int drill_healer_start(const struct drill_scenario *scenario, const struct drill_target *target,
                       unsigned seconds, struct drill_healer *out, struct error *err);

/* Tells it to heal now. */
void drill_healer_heal(struct drill_healer *healer);

/* The next news within the time; false when there is none yet, or never will be. */
bool drill_healer_next(struct drill_healer *healer, nsec_t timeout, struct drill_news *news);

/* Waits for its end. It goes on healing by itself when this is not called. */
void drill_healer_end(struct drill_healer *healer);

#endif
