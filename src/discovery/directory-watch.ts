import { type FSWatcher, statSync, watch } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Watches the directories that decide what stands under a path: the one it is in, and the one that symbolic links lead to.
 * Directories and not the file, because a rename over the file, and Kubernetes' swap of `..data`, leave a watched file
 * behind. Owns its watchers until `close()`.
 */
export class DirectoryWatch {
  readonly #path: string;
  readonly #onEvent: () => void;
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly inode: bigint }>();
  #closed = false;

  /** @param onEvent - called for any change in one of the directories, often several times for one */
  constructor(path: string, onEvent: () => void) {
    this.#path = path;
    this.#onEvent = onEvent;
  }

  /** Looks again which directories those are, and watches them. Gives false when not even the path's own could be. */
  async refresh(): Promise<boolean> {
    const own = dirname(this.#path);
    const target = await realpath(this.#path).then(dirname, () => own);
    if (this.#closed) return false;
    for (const directory of this.#watchers.keys()) {
      if (directory !== own && directory !== target) this.#drop(directory);
    }
    const watching = this.#watch(own);
    if (target !== own) this.#watch(target);
    return watching;
  }

  close(): void {
    this.#closed = true;
    for (const directory of [...this.#watchers.keys()]) this.#drop(directory);
  }

  #watch(directory: string): boolean {
    try {
      const inode = statSync(directory, { bigint: true }).ino;
      if (this.#watchers.get(directory)?.inode === inode) return true;
      this.#drop(directory);
      const watcher = watch(directory, () => this.#onEvent());
      watcher.on('error', () => {
        this.#drop(directory);
        this.#onEvent();
      });
      this.#watchers.set(directory, { watcher, inode });
      return true;
    } catch {
      this.#drop(directory);
      return false;
    }
  }

  #drop(directory: string): void {
    this.#watchers.get(directory)?.watcher.close();
    this.#watchers.delete(directory);
  }
}
