/** How urgent a certificate is (facts section 5): someone waits, a workload is about to need it, a renewal with time left. */
export type IssuePriority = 'real-time' | 'warmup' | 'background';

const order: readonly IssuePriority[] = ['real-time', 'warmup', 'background'];

/**
 * What waits for a free place: the most urgent first, within one priority the first come first. An item is in it once;
 * asking again can only raise it. Its owner bounds how many items there are.
 */
export class IssueQueue<T> {
  readonly #levels: ReadonlyMap<IssuePriority, Set<T>> = new Map(order.map((priority) => [priority, new Set<T>()]));

  get size(): number {
    let size = 0;
    for (const level of this.#levels.values()) size += level.size;
    return size;
  }

  has(item: T): boolean {
    return order.some((priority) => this.#levels.get(priority)!.has(item));
  }

  add(item: T, priority: IssuePriority): void {
    for (const level of order) {
      if (level === priority) break;
      if (this.#levels.get(level)!.has(item)) return;
    }
    this.delete(item);
    this.#levels.get(priority)!.add(item);
  }

  delete(item: T): void {
    for (const level of this.#levels.values()) level.delete(item);
  }

  take(): T | undefined {
    for (const priority of order) {
      const level = this.#levels.get(priority)!;
      for (const item of level) {
        level.delete(item);
        return item;
      }
    }
    return undefined;
  }
}
