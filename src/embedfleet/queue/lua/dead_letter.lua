-- Give a leased task up and keep its payload.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  ready_costs        HASH  tenant -> tokens ready
-- KEYS[4]  shares             HASH  tenant -> stride
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] leases             ZSET  id by expiry
-- KEYS[13] dead               ZSET  id by order of death
--
-- ARGV[1] now     seconds; '' for the server's clock
-- ARGV[2] task_id
-- ARGV[3] fence
-- ARGV[4] reason  for a person to read
--
-- Returns the fence and the worker that hold the task: the caller's fence if it was done, the fence of
-- another lease, or 0 if no worker holds it.
-- Keeps: dead tasks are listed in the order of their deaths, even if the clock went back.
-- Uses: _time.lua, _fair_queue.lua, _layout.lua, _tasks.lua, _leases.lua

local fence = tonumber(ARGV[3])
local task, holder, worker = find_held(ARGV[2], fence)
if not task then
  return {holder, worker}
end
worker = task.worker

begin_even_if_memory_is_full()
end_lease(task)
redis.call('ZREM', key.jobs, job_entry(task))
redis.call('ZADD', key.dead, redis.call('HINCRBY', key.meta, 'deaths', 1), task.id)
task.state, task.fence, task.worker = 'dead', 0, ''
task.reason, task.died_at = ARGV[4], seconds_now(ARGV[1])
save(task)
return {fence, worker}
