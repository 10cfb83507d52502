/* The device lock: one per machine, held around everything that touches device state.
 *
 * It has no owner. machine_park() takes it and machine_resume() gives it back, and those two may be
 * called by different threads (a promotion resumes what another thread built), which a POSIX mutex
 * does not allow. Waiters get it in the order they came. Not recursive. Its place in the lock order
 * is in docs/threads.md. */
#ifndef KEMARI_VMM_DEVICE_LOCK_H
#define KEMARI_VMM_DEVICE_LOCK_H

struct device_lock;

struct device_lock *device_lock_create(void);
void device_lock_destroy(struct device_lock **lock); /* nobody holds it or waits for it */

void device_lock_acquire(struct device_lock *lock);
void device_lock_release(struct device_lock *lock);

/* Called by the holder: gives the lock up, waits for a device_lock_notify() (or wakes without one:
 * check the condition in a loop), and holds the lock again on return. */
void device_lock_wait(struct device_lock *lock);

/* Called by the holder: wakes everybody in device_lock_wait(). */
void device_lock_notify(struct device_lock *lock);

#endif
