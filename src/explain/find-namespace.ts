import { readdirSync, readlinkSync } from 'node:fs';
import { openNetlink } from '../netlink/index.ts';
import { namespaceId } from '../netlink/route/namespace-id.ts';
import { listNamespaces, type NetworkNamespace, openNamespace } from '../netns/index.ts';

/** Finds the namespace that another one knows by a number: those with a name, and those that some process is in. */
export class NamespaceFinder {
  readonly #maxNamespaces: number;
  /** By whose number it is, and the number. */
  readonly #found = new Map<string, { readonly label: string; readonly namespace: NetworkNamespace } | undefined>();
  #labels: readonly string[] | undefined;

  /** @param maxNamespaces - how many are looked at */
  constructor(maxNamespaces: number) {
    this.#maxNamespaces = maxNamespaces;
  }

  /**
   * @param from - whose number it is
   * @returns nothing where it has no name and no process, or is one too many; it belongs to this finder
   */
  find(from: NetworkNamespace, id: number): { label: string; namespace: NetworkNamespace } | undefined {
    const key = `${from.inode} ${id}`;
    if (!this.#found.has(key)) this.#found.set(key, this.#search(from, id));
    return this.#found.get(key);
  }

  /** One after the other, so that no more than those found stay open. */
  #search(from: NetworkNamespace, id: number) {
    this.#labels ??= [...listNamespaces(), ...namespacesOfProcesses()].slice(0, this.#maxNamespaces);
    using netlink = openNetlink({ family: 'route', namespace: from });
    for (const label of this.#labels) {
      const namespace = tryOpen(label);
      if (namespace === undefined) continue;
      if (namespaceId(netlink, namespace) === id) return { label, namespace };
      namespace.close();
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    for (const found of this.#found.values()) found?.namespace.close();
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
