/* The verbs of kemarictl that need more than the control socket, one file each (verb_*.c). */
#ifndef KEMARI_APP_VERBS_H
#define KEMARI_APP_VERBS_H

#include "control/kemarictl_args.h"

extern const struct verb verb_config;
extern const struct verb verb_doctor;
extern const struct verb verb_drill;

/* All of them, up to a NULL: kemarictl's part of the table that control/ can't hold. */
extern const struct verb *const app_verbs[];

#endif
