import { type Hook, type InstalledRule, ruleCounter } from '../netlink/nftables/index.ts';
import { isLegacy } from '../netlink/nftables/legacy-table.ts';
import type { Chances } from './chances.ts';
import { trackConnection, translateByConnection } from './connection.ts';
import { evaluateRule, type Outcome } from './evaluate-rule.ts';
import type { RuleStep, Step } from './explanation.ts';
import { type CalledChain, hookOrder } from './hook-order.ts';
import type { KernelView } from './kernel-view.ts';
import type { Packet } from './packet.ts';
import type { PacketState } from './packet-state.ts';
import { ruleText } from './rule-text.ts';

/** The kernel refuses rulesets with more jumps on the way (NFT_JUMP_STACK_SIZE). */
const MAX_JUMPS = 16;

/** How a hook or a chain let go of the packet. */
export type HookEnd =
  | { readonly kind: 'accept' }
  | { readonly kind: 'drop'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string };

/** What the walk of one packet carries along. */
export interface Walk {
  readonly view: KernelView;
  readonly packet: Packet;
  readonly state: PacketState;
  readonly steps: Step[];
  readonly chances: Chances;
  /** Called after each place of the output hook: it may have to be routed again. Undefined: go on. */
  readonly reroute: (before: Routed) => HookEnd | undefined;
}

/** What the routing of a locally made packet depends on. */
export interface Routed {
  readonly source: string;
  readonly destination: string;
  readonly mark: number | undefined;
}

const ACCEPT: HookEnd = { kind: 'accept' };

/** Takes the packet through one hook. */
export function walkHook(walk: Walk, hook: Hook): HookEnd {
  const { state, view } = walk;
  state.hook = hook;
  for (const place of hookOrder(view, hook, state.family)) {
    const before: Routed = { source: state.source, destination: state.destination, mark: state.mark };
    let end: HookEnd = ACCEPT;
    if (place.kind === 'connection') track(walk, hook);
    else if (place.kind === 'chain') end = walkChain(walk, place.chain);
    else end = translate(walk, hook, place.chains);
    if (end.kind !== 'accept') return end;
    const isRouting = place.kind === 'nat' || (place.kind === 'chain' && place.chain.base.type === 'route');
    const rerouted = hook === 'output' && isRouting ? walk.reroute(before) : undefined;
    if (rerouted !== undefined) return rerouted;
  }
  return ACCEPT;
}

/** A packet that comes round by the loopback has its connection already. */
function track({ state, packet, view, steps }: Walk, hook: Hook): void {
  if (state.connection !== undefined) return;
  const connection = trackConnection(state, packet, view);
  state.connection = connection;
  const { mark, entry, direction } = connection;
  steps.push({
    kind: 'connection',
    hook,
    state: connection.state,
    direction,
    zone: state.zone,
    ...(mark === undefined ? {} : { mark }),
    ...(entry === undefined ? {} : { entry }),
  });
}

function translate(walk: Walk, hook: Hook, chains: readonly CalledChain[]): HookEnd {
  const { state, steps } = walk;
  const { connection } = state;
  if (connection === undefined || connection.state === 'untracked') return ACCEPT;
  const part = hook === 'prerouting' || hook === 'output' ? 'destination' : 'source';
  const settled = part === 'destination' ? 'destinationSettled' : 'sourceSettled';
  if (connection[settled]) {
    const done = translateByConnection(state, part);
    if (done !== undefined) {
      steps.push({
        kind: 'connection-nat',
        hook,
        part,
        ip: done.ip,
        ...(done.port === undefined ? {} : { port: done.port }),
      });
    }
    return ACCEPT;
  }
  for (const chain of chains) {
    const end = walkChain(walk, chain);
    if (end.kind !== 'accept') return end;
    if (connection[settled]) return ACCEPT;
  }
  // Without a rule of its own it is bound to what it is ("null binding").
  connection[settled] = true;
  return ACCEPT;
}

function walkChain({ view, state, steps, chances }: Walk, base: CalledChain): HookEnd {
  const rulesOf = (chain: string) =>
    view.rules.filter(
      (rule) => rule.chain === chain && rule.table.name === base.table.name && rule.table.family === base.table.family,
    );
  const stack: { rules: InstalledRule[]; at: number }[] = [{ rules: rulesOf(base.name), at: 0 }];
  while (stack.length > 0) {
    const frame = stack.at(-1)!;
    const rule = frame.rules[frame.at++];
    if (rule === undefined) {
      stack.pop();
      continue;
    }
    const outcome = evaluateRule(rule, state, view, chances);
    const step = stepOf(rule, base, outcome, view);
    if (step !== undefined) steps.push(step);
    if (outcome.kind === 'unknown' && outcome.matters) {
      return { kind: 'unknown', reason: `${nameOf(rule)} hangs on ${outcome.reason}, which cannot be judged` };
    }
    if (outcome.kind !== 'matched') continue;
    const { verdict } = outcome;
    switch (verdict.kind) {
      case 'accept':
        return ACCEPT;
      case 'drop':
        return { kind: 'drop', reason: nameOf(rule) };
      case 'return':
        stack.pop();
        break;
      case 'jump':
      case 'goto':
        if (verdict.kind === 'goto') stack.pop();
        if (stack.length > MAX_JUMPS) return { kind: 'unknown', reason: `${nameOf(rule)} is ${MAX_JUMPS} jumps deep` };
        stack.push({ rules: rulesOf(verdict.chain), at: 0 });
        break;
    }
  }
  if (base.base.policy === 'accept') return ACCEPT;
  steps.push({ kind: 'policy', hook: base.base.hook, table: base.table, chain: base.name });
  return { kind: 'drop', reason: `the policy of ${base.table.family} ${base.table.name} ${base.name}` };
}

function nameOf({ table, chain, comment, handle }: InstalledRule): string {
  const numbered = `${isLegacy(table) ? 'entry' : 'handle'} ${handle}`;
  return `rule ${comment === undefined ? numbered : JSON.stringify(comment)} of ${table.family} ${table.name} ${chain}`;
}

/** Rules that are passed by are no steps, unless there is something to say of them. */
function stepOf(rule: InstalledRule, { base }: CalledChain, outcome: Outcome, view: KernelView): RuleStep | undefined {
  if (outcome.kind === 'no-match' && outcome.effects.length === 0 && outcome.note === undefined) return undefined;
  const counter = ruleCounter(rule);
  const verdict = outcome.kind === 'matched' ? outcome.verdict : undefined;
  const note =
    outcome.kind === 'unknown'
      ? `cannot tell: ${outcome.reason}`
      : outcome.kind === 'no-match'
        ? outcome.note
        : undefined;
  return {
    kind: 'rule',
    hook: base.hook,
    priority: base.priority,
    table: rule.table,
    chain: rule.chain,
    handle: String(rule.handle),
    ...(rule.comment === undefined ? {} : { comment: rule.comment }),
    ...(counter === undefined ? {} : { counter: { packets: counter.packets, bytes: counter.bytes } }),
    text: ruleText(rule, view),
    effects: outcome.kind === 'unknown' ? [] : outcome.effects,
    verdict: verdict?.kind ?? (outcome.kind === 'unknown' ? 'unknown' : 'break'),
    ...(verdict !== undefined && 'chain' in verdict ? { target: verdict.chain } : {}),
    ...(note === undefined ? {} : { note }),
  };
}
