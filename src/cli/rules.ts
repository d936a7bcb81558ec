import { AmbientError, messageOf } from '../errors/index.ts';
import { currentNamespace, type NetworkNamespace, openNamespace } from '../netns/index.ts';
import {
  apply,
  type Drained,
  differenceText,
  drainAndRemove,
  type RedirectionPlan,
  type Role,
  renderIptables,
  renderNftText,
  renderText,
  verify,
  type WatchEvent,
  watch,
} from '../redirection/index.ts';
import { messagesText, plannedMessages } from './rules-messages.ts';
import { parseRulesOptions, RULES_HELP, type RulesFormat, type RulesOptions } from './rules-options.ts';
import { UsageError } from './usage-error.ts';

/**
 * `ambient rules`. Results on standard output.
 *
 * @returns the exit code: 0, or 1 where the kernel differs from the plan or refused it
 * @throws {UsageError} exit code 2
 */
export async function rulesCommand(args: string[]): Promise<number> {
  const options = parseRulesOptions(args);
  if (options === undefined) {
    process.stdout.write(RULES_HELP);
    return 0;
  }
  if (options.command === 'plan') return show(options, 'apply');
  if (options.dryRun && (options.command === 'apply' || options.command === 'remove')) {
    return show(options, options.command);
  }
  if (process.getuid?.() !== 0) {
    throw new UsageError(`ambient rules ${options.command} speaks to the kernel as root only: run it again with sudo`);
  }
  using namespaces = new OpenNamespaces(options.namespaces);
  try {
    return await act(options, namespaces.byRole);
  } catch (error) {
    if (!options.json || !AmbientError.is(error)) throw error;
    print({ ok: false, error: { code: error.code, message: error.message } });
    return 1;
  }
}

async function act(options: RulesOptions, namespaces: Readonly<Record<Role, NetworkNamespace>>): Promise<number> {
  const { command, plan, json } = options;
  if (command === 'watch') return keep(options, namespaces);
  if (command === 'verify') {
    const { inForce, differences, notes } = verify(plan, namespaces);
    if (json) print({ ok: inForce, differences, notes });
    else {
      const lines = [...differences.map(differenceText), ...notes.map((note) => `note: ${note}`)];
      process.stdout.write([...lines, inForce ? 'in force' : countOf(differences.length, 'difference'), ''].join('\n'));
    }
    return inForce ? 0 : 1;
  }
  if (command === 'remove') return takeAway(options, namespaces);
  using redirection = apply(plan, namespaces);
  const { rules, pods } = redirection.readBack();
  if (json) print({ ok: true, rules, pods });
  else
    process.stdout.write(
      `${plan.name} is in force: ${countOf(rules.length, 'rule')}, ${countOf(pods.length, 'pod')}\n`,
    );
  return 0;
}

/** A signal ends the wait for captured connections, which are cut then. */
async function takeAway(
  { plan, json, drainMs }: RulesOptions,
  namespaces: Readonly<Record<Role, NetworkNamespace>>,
): Promise<number> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  let isTold = json || drainMs === 0;
  const onOpen = (open: number) => {
    if (isTold || open === 0) return;
    isTold = true;
    const wait = `waiting up to ${drainMs / 1000} s for ${countOf(open, 'connection')}`;
    process.stdout.write(`nothing new is captured; ${wait} that ${open === 1 ? 'was' : 'were'}\n`);
  };
  let drained: Drained;
  try {
    drained = await drainAndRemove(plan, namespaces, { deadlineMs: drainMs, signal: stop.signal, onOpen });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    drained = await drainAndRemove(plan, namespaces, { deadlineMs: 0 });
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  const { cut } = drained;
  if (json) print({ ok: true, cut });
  else {
    const broke = cut === 0 ? '' : `; ${countOf(cut, 'captured connection')} broke`;
    process.stdout.write(`removed ${plan.name}; kernel parameters stay as they are${broke}\n`);
  }
  return 0;
}

/** Ends well by SIGINT and SIGTERM; a namespace that is gone, or a redirection that is, is no good end. */
async function keep(
  { plan, json }: RulesOptions,
  namespaces: Readonly<Record<Role, NetworkNamespace>>,
): Promise<number> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    using redirection = apply(plan, namespaces);
    const onEvent = (event: WatchEvent) => {
      const at = new Date().toISOString();
      if (json) print({ at, ...event, ...('error' in event ? { error: messageOf(event.error) } : {}) });
      else process.stdout.write(`${at} ${eventText(event)}\n`);
    };
    await using watching = watch(redirection, { signal: stop.signal, onEvent });
    if (!json) process.stdout.write(`${plan.name} is in force, and watched\n`);
    return (await watching.ended) === 'aborted' ? 0 : 1;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

function eventText(event: WatchEvent): string {
  const list = 'differences' in event ? event.differences.map((one) => `\n  ${differenceText(one)}`).join('') : '';
  switch (event.type) {
    case 'repaired':
      return `repaired in ${Math.round(event.tookMs)} ms:${list}`;
    case 'failed':
      return `cannot repair, again in ${event.retryInMs / 1000} s: ${messageOf(event.error)}${list}`;
    case 'unrepairable':
      return list === '' ? 'nothing stands in front any more' : `not ours to repair:${list}`;
    case 'paused': {
      const seconds = Math.round(event.retryInMs / 1000);
      return `another program undoes this (${event.repairs} repairs in ${event.windowMs / 1000} s), left alone for ${seconds} s:${list}`;
    }
    case 'resynchronised':
      return `${event.role}: notifications were lost, everything is read again`;
    case 'ended':
      return `ended: ${event.reason}${event.role === undefined ? '' : ` (${event.role})`}`;
  }
}

/** The plan, and for a dry run the messages too, unless a format says which. */
function show({ plan, format, dryRun, json }: RulesOptions, what: 'apply' | 'remove'): number {
  if (json) {
    const messages = plannedMessages(plan, what).map(({ bytes, ...message }) => ({
      ...message,
      hex: bytes.toString('hex'),
    }));
    print(dryRun || format === 'netlink' ? { plan, messages } : { plan });
    return 0;
  }
  const formats: readonly RulesFormat[] = format !== undefined ? [format] : dryRun ? ['text', 'netlink'] : ['text'];
  process.stdout.write(formats.map((one) => rendered(plan, one, what)).join('\n'));
  return 0;
}

function rendered(plan: RedirectionPlan, format: RulesFormat, what: 'apply' | 'remove'): string {
  if (format === 'text') return renderText(plan);
  if (format === 'netlink') return messagesText(plannedMessages(plan, what));
  const parts = plan.sides.map(({ role }) => {
    if (format === 'nft') return `# ${role}: nft -f\n${nftText(plan, role, what)}`;
    const all = renderIptables(plan, role);
    const { ipset, iptables, ip6tables } = what === 'apply' ? all : all.remove;
    const restores: readonly (readonly [string, string])[] = [
      ['ipset restore', ipset],
      ['iptables-restore --noflush', iptables],
      ['ip6tables-restore --noflush', ip6tables],
    ];
    const told = what === 'apply' ? restores : [...restores.slice(1), restores[0]!];
    return told.flatMap(([tool, text]) => (text === '' ? [] : [`# ${role}: ${tool}\n${text}`])).join('\n');
  });
  return parts.filter((part) => part !== '').join('\n');
}

/** To take tables away, they are added first, so that one that is not there is no error. */
function nftText(plan: RedirectionPlan, role: Role, what: 'apply' | 'remove'): string {
  const text = renderNftText(plan, role);
  if (what === 'apply') return text;
  const lines = text.split('\n').filter((line) => /^(delete )?table \S+ \S+$/.test(line));
  return `${lines.join('\n')}\n`;
}

function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function print(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document)}\n`);
}

/** The namespaces of the roles, closed together. */
class OpenNamespaces implements Disposable {
  readonly byRole: Record<Role, NetworkNamespace> = {};

  /** @throws {UsageError} for one that is not there */
  constructor(names: RulesOptions['namespaces']) {
    try {
      for (const [role, name] of Object.entries(names)) {
        this.byRole[role] = name === undefined ? currentNamespace() : openNamespace(name);
      }
    } catch (error) {
      this[Symbol.dispose]();
      if (AmbientError.is(error)) throw new UsageError(`ambient rules: ${error.message}`);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const namespace of Object.values(this.byRole)) namespace.close();
  }
}
