import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import {
  apply,
  type IptablesOptions,
  type Namespaces,
  type RedirectionPlan,
  type Role,
  renderIptables,
  renderNftText,
} from '../../src/redirection/index.ts';
import { runIn } from '../support/namespaces.ts';

/** The renderings, and what loads each. */
export const renderings = ['netlink', 'nft -f', 'iptables-nft', 'iptables-legacy'] as const;
export type Rendering = (typeof renderings)[number];

/** What all of them need of the machine. */
export const renderingTools = [
  'nft',
  'ipset',
  'iptables-nft-restore',
  'ip6tables-nft-restore',
  'iptables-legacy-restore',
  'ip6tables-legacy-restore',
];

/** Puts a plan in force with its rules by one rendering, loaded by the real tool; links, routes and policy rules are the library's. */
export function loadRendering(
  rendering: Rendering,
  plan: RedirectionPlan,
  namespaces: Namespaces,
  options: IptablesOptions = {},
): void {
  if (rendering === 'netlink') {
    apply(plan, namespaces).close();
    return;
  }
  const sides = plan.sides.map((side) => ({ ...side, chains: [] }));
  apply({ ...plan, sides }, namespaces).close();
  for (const { role } of plan.sides) loadText(rendering, plan, role, namespaces[role]!, options);
}

/** Loads one side's rules by the real tool, and nothing else. */
export function loadText(
  rendering: Exclude<Rendering, 'netlink'>,
  plan: RedirectionPlan,
  role: Role,
  namespace: NetworkNamespace,
  options: IptablesOptions = {},
): void {
  if (rendering === 'nft -f') {
    feed(namespace, renderNftText(plan, role), 'nft', '-f');
    return;
  }
  const backend = rendering === 'iptables-nft' ? 'nft' : 'legacy';
  const { ipset, iptables, ip6tables } = renderIptables(plan, role, options);
  feed(namespace, ipset, 'ipset', 'restore', '-file');
  feed(namespace, iptables, `iptables-${backend}-restore`, '--noflush');
  feed(namespace, ip6tables, `ip6tables-${backend}-restore`, '--noflush');
}

/** Takes away what {@link loadText} loaded as iptables' text. */
export function unloadIptables(
  backend: 'nft' | 'legacy',
  plan: RedirectionPlan,
  role: Role,
  namespace: NetworkNamespace,
): void {
  const { remove } = renderIptables(plan, role);
  feed(namespace, remove.iptables, `iptables-${backend}-restore`, '--noflush');
  feed(namespace, remove.ip6tables, `ip6tables-${backend}-restore`, '--noflush');
  feed(namespace, remove.ipset, 'ipset', 'restore', '-file');
}

/** Runs a tool on a file with this text; nothing where there is no text. */
export function feed(namespace: NetworkNamespace, text: string, command: string, ...args: string[]): void {
  if (text === '') return;
  const folder = mkdtempSync(join(tmpdir(), 'akt-rendering-'));
  try {
    const file = join(folder, 'rules');
    writeFileSync(file, text);
    runIn(namespace, command, ...args, file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
