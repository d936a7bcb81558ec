import { readdirSync, readlinkSync } from 'node:fs';
import { openNetlink } from '../netlink/index.ts';
import { namespaceId } from '../netlink/route/namespace-id.ts';
import { listNamespaces, type NetworkNamespace, openNamespace } from '../netns/index.ts';

/** Finds the namespace that another one knows by a number: those with a name, and those that some process is in. */
export class NamespaceFinder {
  readonly #maxNamespaces: number;
  readonly #opened: NetworkNamespace[] = [];
  #candidates: { readonly label: string; readonly namespace: NetworkNamespace }[] | undefined;

  /** @param maxNamespaces - how many are looked at */
  constructor(maxNamespaces: number) {
    this.#maxNamespaces = maxNamespaces;
  }

  /**
   * @param from - whose number it is
   * @returns nothing where it has no name and no process, or is one too many; it belongs to this finder
   */
  find(from: NetworkNamespace, id: number): { label: string; namespace: NetworkNamespace } | undefined {
    using netlink = openNetlink({ family: 'route', namespace: from });
    return this.#all().find(({ namespace }) => namespaceId(netlink, namespace) === id);
  }

  #all() {
    this.#candidates ??= this.#open();
    return this.#candidates;
  }

  #open() {
    const inodes = new Set<number>();
    const found: { label: string; namespace: NetworkNamespace }[] = [];
    for (const label of [...listNamespaces(), ...namespacesOfProcesses()]) {
      if (found.length === this.#maxNamespaces) break;
      const namespace = tryOpen(label);
      if (namespace === undefined) continue;
      this.#opened.push(namespace);
      if (inodes.has(namespace.inode)) continue;
      inodes.add(namespace.inode);
      found.push({ label, namespace });
    }
    return found;
  }

  [Symbol.dispose](): void {
    for (const namespace of this.#opened) namespace.close();
  }
}

/** One path for each namespace that a process is in. */
function namespacesOfProcesses(): string[] {
  const paths = new Map<string, string>();
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const path = `/proc/${pid}/ns/net`;
    try {
      const target = readlinkSync(path);
      if (!paths.has(target)) paths.set(target, path);
    } catch {
      // It has ended, or is nobody's business of ours.
    }
  }
  return [...paths.values()];
}

function tryOpen(label: string): NetworkNamespace | undefined {
  try {
    return openNamespace(label);
  } catch {
    return undefined;
  }
}
