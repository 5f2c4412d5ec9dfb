-- Give a leased task back, to become ready again after a delay.
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
-- KEYS[13] delayed            ZSET  id by due time
--
-- ARGV[1] now            seconds; '' for the server's clock
-- ARGV[2] task_id
-- ARGV[3] fence
-- ARGV[4] delay_seconds
-- ARGV[5] counted        0 takes the attempt back, 1 does not
-- ARGV[6] reason         for a person to read
--
-- Returns the fence and the worker that hold the task: the caller's fence if it was done, the fence of
-- another lease, or 0 if no worker holds it.
-- Keeps: a task of a cancelled job does not come back; a stale fence changes nothing.
-- Uses: _time.lua, _fair_queue.lua, _layout.lua, _tasks.lua, _leases.lua

local fence = tonumber(ARGV[3])
local task, holder, worker = find_held(ARGV[2], fence)
if not task then
  return {holder, worker}
end
worker = task.worker

begin_even_if_memory_is_full()
end_lease(task)
if task.doomed == 1 then
  finish(task)
else
  task.state, task.fence, task.worker = 'delayed', 0, ''
  if ARGV[5] == '0' then
    task.attempt = task.attempt - 1
  end
  task.reason = ARGV[6]
  save(task)
  redis.call('ZADD', key.delayed, exactly(seconds_now(ARGV[1]) + tonumber(ARGV[4])), task.id)
  add_cost('delayed', task.cost)
end
return {fence, worker}
