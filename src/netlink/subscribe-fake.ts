import type { NetlinkMessage } from './message-reader.ts';
import type { NotificationSource, Notifications } from './subscribe.ts';

/** A {@link NotificationSource} without a kernel: gives what a test pushed into it. */
export class FakeNotifications implements NotificationSource {
  closed = false;
  #messages: NetlinkMessage[] = [];
  #lost = false;
  #error: unknown;

  /** What the next reading gives, after what is waiting already. */
  push(...messages: readonly Pick<NetlinkMessage, 'type' | 'payload'>[]): void {
    this.#messages.push(...messages.map(({ type, payload }) => ({ type, payload, flags: 0, seq: 0 })));
  }

  /** The next reading has lost something. */
  lose(): void {
    this.#lost = true;
  }

  /** The next reading throws. */
  fail(error: unknown): void {
    this.#error = error;
  }

  receive(): Notifications {
    if (this.#error !== undefined) throw this.#error;
    const given = { messages: this.#messages, lost: this.#lost };
    this.#messages = [];
    this.#lost = false;
    return given;
  }

  close(): void {
    this.closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
