#include "app/verbs.h"

const struct verb *const app_verbs[] = {&verb_config, &verb_doctor, &verb_drill, NULL};
