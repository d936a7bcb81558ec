/** The last ids of streams that we reset: frames for them were sent before the peer knew, and are no error. */
export class ResetMemory {
  readonly #limit: number;
  readonly #ids = new Set<number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(id: number): void {
    // A Set keeps the order of insertion, so the first is the oldest.
    if (this.#ids.size === this.#limit) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest);
        break;
      }
    }
    this.#ids.add(id);
  }

  has(id: number): boolean {
    return this.#ids.has(id);
  }
}
