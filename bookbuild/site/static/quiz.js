// Quizzes: a choice is answered at once and remembered on this device.
(function () {
  "use strict";
  Array.prototype.forEach.call(document.querySelectorAll("div.quiz"), function (quiz) {
    var key = "quiz:" + location.pathname.split("/").slice(-2).join("/") + "#" + quiz.id;
    var choices = Array.prototype.slice.call(quiz.querySelectorAll(".quiz-choice"));
    var status = quiz.querySelector(".quiz-status");
    quiz.classList.add("live");

    function show(chosen, announce) {
      choices.forEach(function (choice, number) {
        var picked = number === chosen;
        choice.classList.toggle("picked", picked);
        choice.querySelector("details").open = picked;
        choice.querySelector("input").checked = picked;
      });
      var right = chosen >= 0 && choices[chosen].dataset.correct === "true";
      quiz.classList.toggle("answered", chosen >= 0);
      if (announce) {
        var why = choices[chosen].querySelector(".quiz-why > div");
        status.textContent = why.textContent.replace(/\s+/g, " ");
      }
      return right;
    }
    choices.forEach(function (choice, number) {
      var input = choice.querySelector("input");
      input.disabled = false;
      input.addEventListener("change", function () {
        show(number, true);
        try { localStorage.setItem(key, String(number)); } catch (error) { /* not remembered */ }
      });
    });
    var kept = null;
    try { kept = localStorage.getItem(key); } catch (error) { /* nothing kept */ }
    if (kept !== null && choices[Number(kept)]) show(Number(kept), false);
  });
})();
