import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Netlink, openNetlink } from '../../src/netlink/index.ts';
import {
  type Expression,
  listChains,
  listElements,
  listRules,
  listSets,
  listTables,
} from '../../src/netlink/nftables/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { type RedirectionPlan, renderIptables, renderNftables } from '../../src/redirection/index.ts';
import { elementsOf, nftablesRuleset } from '../../src/redirection/render-nftables.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { loadText, renderingTools, unloadIptables } from './load-rendering.ts';
import { randomNftPlan, randomPlan } from './random-plan.ts';

const tools = ['iptables-nft-save', 'ip6tables-nft-save', ...renderingTools];

/** Buffers and arrays of bytes are one to the kernel. */
function plain(expressions: readonly Expression[]): unknown {
  return JSON.parse(
    JSON.stringify(expressions, (_key, value) => {
      if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
      return value?.type === 'Buffer' ? Buffer.from(value.data).toString('hex') : value;
    }),
  );
}

/** What the kernel has, in the terms of a ruleset. */
function readRuleset(netlink: Netlink) {
  const tables = listTables(netlink);
  const byText = <T>(items: T[]): T[] => items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return {
    tables: byText(tables),
    chains: byText(tables.flatMap((table) => listChains(netlink, table))),
    sets: byText(
      tables.flatMap((table) =>
        listSets(netlink, table).map((set) => ({ set, elements: byText(listElements(netlink, set)) })),
      ),
    ),
    rules: rulesByChain(tables.flatMap((table) => listRules(netlink, table))),
  };
}

/** The order of rules counts within a chain. */
function rulesByChain(
  rules: readonly { table: unknown; chain: string; expressions: readonly Expression[]; comment?: string }[],
) {
  const chains: Record<string, unknown[]> = {};
  for (const { table, chain, expressions, comment } of rules) {
    const key = `${JSON.stringify(table)} ${chain}`;
    chains[key] = [...(chains[key] ?? []), [comment, plain(expressions)]];
  }
  return chains;
}

function rendered(plan: RedirectionPlan) {
  const { tables, chains, sets, rules } = nftablesRuleset(plan, 'node');
  const byText = <T>(items: T[]): T[] => items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return {
    tables: byText([...tables]),
    chains: byText([...chains]),
    sets: byText(sets.map((set) => ({ set, elements: byText(elementsOf(plan, 'node', set.name)) }))),
    rules: rulesByChain(rules),
  };
}

/** The lines of one table each, options in an order of their own, and what a tool adds by itself left out. */
function lines(text: string): string[] {
  let table = '';
  return text.split('\n').flatMap((line) => {
    if (line.startsWith('*')) table = line;
    if (!/^-[AI] /.test(line)) return [];
    const [, chain, ...rest] = line.replace(/^-I/, '-A').split(' ');
    const options = rest
      .join(' ')
      .split(/ (?=! -|-(?!-)|--(?<!! --))/)
      .map((option) => option.replace('/0xffffffff', ''))
      .filter((option) => !/^--on-ip (0\.0\.0\.0|::)$/.test(option));
    return [`${table} ${chain} ${options.sort().join(' ')}`];
  });
}

describeRequiring('any plan, rendered, loaded and read back, is the same', { root: true, tools }, () => {
  async function check(
    numRuns: number,
    plans: fc.Arbitrary<RedirectionPlan>,
    body: (plan: RedirectionPlan, one: NetworkNamespace, other: NetworkNamespace) => void,
  ): Promise<void> {
    await withNamespaces(['one', 'other'], (one, other) => {
      fc.assert(
        fc.property(plans, (plan) => body(plan, one!, other!)),
        { numRuns },
      );
    });
  }

  it('as a netlink batch', async () => {
    await check(60, randomNftPlan, (plan, one) => {
      using netlink = openNetlink({ family: 'netfilter', namespace: one });
      renderNftables(plan, 'node').commit(netlink);
      expect(readRuleset(netlink)).toEqual(rendered(plan));
    });
  });

  it('as nft text: what nft makes of it is what it makes of the batch', async () => {
    await check(30, randomNftPlan, (plan, one, other) => {
      using netlink = openNetlink({ family: 'netfilter', namespace: one });
      renderNftables(plan, 'node').commit(netlink);
      loadText('nft -f', plan, 'node', other);
      const listed = [one, other].map((namespace) =>
        runIn(namespace, 'nft', 'list', 'ruleset')
          .split(/\n(?=table)/)
          .map((table) => table.trim())
          .sort(),
      );
      expect(listed[1]).toEqual(listed[0]);
    });
  });

  it.each(['nft', 'legacy'] as const)('as text for iptables, by %s', async (backend) => {
    await check(25, randomPlan, (plan, one) => {
      const text = renderIptables(plan, 'node');
      loadText(`iptables-${backend}`, plan, 'node', one);
      try {
        for (const tool of ['iptables', 'ip6tables'] as const) {
          const saved = lines(runIn(one, `${tool}-${backend}-save`));
          expect(saved.sort()).toEqual(lines(text[tool]).sort());
        }
        const members = runIn(one, 'ipset', 'list', '-o', 'save')
          .split('\n')
          .filter((line) => line.startsWith('add '));
        expect(members.sort()).toEqual(
          text.ipset
            .split('\n')
            .filter((line) => line.startsWith('add '))
            .sort(),
        );
      } finally {
        unloadIptables(backend, plan, 'node', one);
      }
    });
  });
});
