-- Make leased tasks that were not begun ready again, and take their attempts back.
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
--
-- ARGV[1..] leases  of each lease: id, fence; at most 1,000
--
-- Returns for each lease 1 if it was ended, 0 if it is lost.
-- Keeps: the place of each task in line; a task of a cancelled job does not come back; a stale fence changes
-- nothing.
-- Uses: _fair_queue.lua, _layout.lua, _tasks.lua, _leases.lua

local answer = {}

begin_even_if_memory_is_full()
for i = 1, #ARGV, 2 do
  local task = find_held(ARGV[i], tonumber(ARGV[i + 1]))
  if task then
    end_lease(task)
    task.attempt = task.attempt - 1
    return_to_line(task)
  end
  answer[#answer + 1] = task and 1 or 0
end
return answer
