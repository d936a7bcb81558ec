import { deniedScenario } from '../denied.ts';

export const denied = deniedScenario({
  captured: { node: 'node-a', id: 'prerouting-15', what: 'first packet gets mark 0x100' },
  delivery: 'node-b',
});
