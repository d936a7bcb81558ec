import type { ConntrackEntry } from '../netlink/conntrack/index.ts';
import type { Hook, Table } from '../netlink/nftables/index.ts';
import type { ListedRoute, ListedRule } from '../netlink/route/index.ts';
import type { Effect } from './evaluate-rule.ts';
import type { Packet } from './packet.ts';

/** A rule that the packet meets: one whose conditions hold, or one of which that cannot be told. */
export interface RuleStep {
  readonly kind: 'rule';
  readonly hook: Hook;
  readonly priority: number;
  readonly table: Table;
  readonly chain: string;
  /** The kernel's number of the rule in its table; in a table of iptables-legacy, which has none, the place of its entry. */
  readonly handle: string;
  /** The id of a plan's rule is its comment. */
  readonly comment?: string;
  /** What its first counter has counted so far, this packet not among them. */
  readonly counter?: { readonly packets: number; readonly bytes: number };
  /** The rule, much as nft writes it. */
  readonly text: string;
  readonly effects: readonly Effect[];
  /** `break`: it did not match to its end, `note` says why that is worth knowing. */
  readonly verdict: 'accept' | 'drop' | 'return' | 'continue' | 'break' | 'jump' | 'goto' | 'unknown';
  /** Where `jump` or `goto` lead. */
  readonly target?: string;
  readonly note?: string;
}

/** What happens to the packet, in the order in which it happens. */
export type Step =
  | RuleStep
  | {
      readonly kind: 'connection';
      readonly hook: Hook;
      readonly state: 'new' | 'established' | 'untracked';
      readonly direction: 'original' | 'reply';
      readonly mark?: number;
      readonly zone: number;
      readonly entry?: ConntrackEntry;
    }
  /** The address translation that the connection's first packet settled; nat chains are not asked. */
  | {
      readonly kind: 'connection-nat';
      readonly hook: Hook;
      readonly part: 'source' | 'destination';
      readonly ip: string;
      readonly port?: number;
    }
  | { readonly kind: 'policy'; readonly hook: Hook; readonly table: Table; readonly chain: string }
  | {
      readonly kind: 'route';
      /** `again`: a rule of the output hook changed what routing depends on. */
      readonly why: 'arrived' | 'made here' | 'again';
      readonly mark?: number;
      readonly rule: ListedRule;
      readonly route: ListedRoute;
    }
  | { readonly kind: 'loopback' };

/** How it ends in this namespace. */
export type Ending =
  /** `device` is left out where the route has several. */
  | { readonly kind: 'forwarded' | 'sent'; readonly device?: string; readonly gateway?: string }
  /** A bridge passes it on without routing it. */
  | { readonly kind: 'bridged'; readonly device: string }
  /** To a socket of this namespace; by TPROXY, one that listens elsewhere than the packet says. */
  | {
      readonly kind: 'delivered';
      readonly ip?: string;
      readonly port?: number;
      readonly tproxy: boolean;
      /** False where no socket that this view knows takes a new connection there. */
      readonly listening?: boolean;
    }
  | { readonly kind: 'dropped'; readonly reason: string }
  /** Something that decides cannot be judged; the steps are right up to there. */
  | { readonly kind: 'unknown'; readonly reason: string };

/** The difference between a connection's first packet and this one. */
export interface FastPath {
  readonly firstRules: number;
  readonly rules: number;
  /** Rules that the first packet met and this one does not have to, by comment or handle. */
  readonly spared: readonly string[];
  /** How the first packet went, had it to go now. */
  readonly firstEnding: Ending;
}

/** The answer to "what happens to this packet?" */
export interface Explanation {
  readonly packet: Packet;
  readonly steps: readonly Step[];
  readonly ending: Ending;
  /** The packet as it leaves. */
  readonly source: string;
  readonly sourcePort?: number;
  readonly destination: string;
  readonly destinationPort?: number;
  readonly mark?: number;
  /** For an established connection that is in the table, in its original direction. */
  readonly fastPath?: FastPath;
  /** How likely this way is, from 0 to 1, where the kernel throws dice and the rules say how. */
  readonly probability?: number;
  /** The other ways it may go where the kernel throws dice, without ways of their own. */
  readonly otherwise?: readonly Explanation[];
  /** What may decide as well, and cannot be seen from here. Empty: the whole of it was judged. */
  readonly caveats: readonly string[];
}
