import { deniedScenario } from '../denied.ts';

export const denied = deniedScenario({
  captured: { node: 'client2', id: 'nat-output-6', what: 'redirected to 15001 as it leaves' },
  delivery: 'httpbin',
});
