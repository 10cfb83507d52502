/* The command line; programs use the getters declared in runtime.h. */
#ifndef KEMARI_GUEST_ARGS_H
#define KEMARI_GUEST_ARGS_H

/* Copies the command line (NULL: empty); called once by the runtime. */
void args_set(const char *line);

#endif
