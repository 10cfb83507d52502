/* Reports of past drills: DIRECTORY/drills/ID.json and ID.svg, the newest DRILL_HISTORY_KEPT of
 * them, DIRECTORY being the daemon's state directory. */
#ifndef KEMARI_APP_DRILL_HISTORY_H
#define KEMARI_APP_DRILL_HISTORY_H

#include "app/drill_report.h"

#define DRILL_HISTORY_KEPT 100

/* Takes the one lock of this directory's drills, making the folder if needed; a descriptor to be
 * closed. -EBUSY while another drill runs. */
int drill_history_lock(const char *state_dir, struct error *err);

/* Saves it and removes the oldest beyond the limit. */
int drill_history_save(const char *state_dir, const struct drill_report *report, struct error *err);

/* `id` NULL: the newest. -ENOENT when there is none. */
int drill_history_load(const char *state_dir, const char *id, struct drill_report *report,
                       struct error *err);

/* Ids, oldest first; free with the other. The count, or -errno. */
int drill_history_list(const char *state_dir, char ***ids, struct error *err);
void drill_history_free(char **ids, int count);

#endif
