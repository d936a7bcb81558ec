import { formatExplanation, visible } from './format-explanation.ts';
import type { Journey, JourneyEnding, Passage } from './journey.ts';

/** A journey for people: each namespace with its name and what {@link formatExplanation} says of it, what lies between, and the end. */
export function formatJourney({ hops, ending }: Journey): string {
  const parts = hops.map(({ namespace, tunnels, explanation, passages }) => {
    const inside =
      tunnels === 0 ? '' : tunnels === 1 ? ', the tunnel’s own packet' : `, the packet of tunnel ${tunnels}`;
    const ways = explanation.otherwise?.length ?? 0;
    const chosen =
      ways === 0 || passages.length === 0 ? '' : `⇢ of these ${ways + 1} ways, the one told first is followed\n`;
    const lines = passages.map((passage) => `${visible(`⇢ ${passageText(passage)}`)}\n`);
    return `${visible(`── ${namespace}${inside} ──`)}\n${formatExplanation(explanation)}${chosen}${lines.join('')}`;
  });
  const end = endingText(ending);
  return `${parts.join('\n')}${end === undefined ? '' : `${visible(`⇢ ${end}`)}\n`}`;
}

function passageText(passage: Passage): string {
  switch (passage.kind) {
    case 'veth':
      return `veth: ${passage.device} is one end, ${passage.peer} in ${passage.namespace} the other`;
    case 'bridge': {
      const { bridge, port, because } = passage;
      const why = because === 'forwarding table' ? 'by its forwarding table' : 'since the address is there';
      return `bridge ${bridge}: on by its port ${port}, ${why}`;
    }
    case 'tunnel':
      return `${passage.protocol} ${passage.id}: ${passage.device} puts it into a packet of its own`;
    case 'tunnel-end':
      return `taken out of the tunnel: comes in by ${passage.device} in ${passage.namespace}`;
  }
}

function endingText(ending: JourneyEnding): string | undefined {
  if (ending.kind === 'settled') return undefined;
  if (ending.kind === 'left') return `leaves by ${ending.device} (${ending.what}), which is not followed`;
  return `cannot be followed: ${ending.reason}`;
}
