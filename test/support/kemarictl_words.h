/* kemarictl in this process, with the verbs of app/, too: one command line in a string. */
#ifndef KEMARI_TEST_SUPPORT_KEMARICTL_WORDS_H
#define KEMARI_TEST_SUPPORT_KEMARICTL_WORDS_H

/* Runs "kemarictl WORDS...", split at blanks; *out and *err are to be freed. Returns the status. */
int kemarictl_run_words(const char *words, char **out, char **err);

/* Runs it and asserts status, standard error and, unless NULL, standard output. */
void kemarictl_expect(const char *words, int status, const char *wanted_out,
                      const char *wanted_err);

#endif
