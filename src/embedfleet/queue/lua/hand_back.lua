-- Make a leased task that was not begun ready again, and take its attempt back.
--
-- KEYS[1]  meta               HASH  counters, virtual times
-- KEYS[2]  ready              ZSET  tasks in line, ordered by bytes
-- KEYS[3]  in_flight          HASH  tenant -> leased tasks
-- KEYS[4]  shares             HASH  tenant -> "stride cap"
-- KEYS[5]  interactive        ZSET  eligible tenants by virtual start
-- KEYS[6]  bulk               ZSET  the same for the bulk lane
-- KEYS[7]  interactive_debts  ZSET  what absent tenants owe, by virtual start
-- KEYS[8]  bulk_debts         ZSET  the same for the bulk lane
-- KEYS[9]  tasks              HASH  id -> record
-- KEYS[10] payloads           HASH  id -> payload
-- KEYS[11] jobs               ZSET  job / id of what may be cancelled, ordered by bytes
-- KEYS[12] leases             ZSET  id by expiry
--
-- ARGV[1] task_id
-- ARGV[2] fence
--
-- Returns the fence and the worker that hold the task: the caller's fence if it was done, the fence of
-- another lease, or 0 if no worker holds it.
-- Keeps: the task's place in line; a task of a cancelled job does not come back.
-- Uses: _fair_queue.lua, _tasks.lua, _leases.lua

local fence = tonumber(ARGV[2])
local task, holder, worker = find_held(ARGV[1], fence)
if not task then
  return {holder, worker}
end
worker = task.worker

begin_even_if_memory_is_full()
end_lease(task)
task.attempt = task.attempt - 1
return_to_line(task)
return {fence, worker}
